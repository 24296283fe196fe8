"""A run in the browser, to be corrected; needs the extra `review`. application.py: what is asked and answered, serve.py: the server."""
