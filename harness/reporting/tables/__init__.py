"""Tables, and sentences about them."""
