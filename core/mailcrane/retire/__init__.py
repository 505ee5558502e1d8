"""Leaving the queue, or staying in it: the last unit of an attempt, with the events that tell of it."""
