"""Pages for people: the console's static files and the catalogue of problems."""
