"""What the server tells of itself: structured log, metrics, health; and the type that keeps secrets out of them."""
