"""A run in the browser, to be corrected: application.py what may be asked and what is answered, serve.py the server. Needs the extra `review`."""
