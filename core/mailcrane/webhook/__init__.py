"""The last stage: from recorded events to HTTP calls, retried, retired."""
