"""From what a transport reports to what it means for an entry."""
