"""Figures: records of what is to be drawn, and the drawing of them."""
