"""Show results: tables, figures, sentences and the page."""
