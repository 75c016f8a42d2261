"""Plans samples, renders them by one of several methods, and judges them."""
