"""Lets the tests of this directory import what they share, which the server's child processes import too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
