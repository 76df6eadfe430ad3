"""Makes the pictures of the help pages in web/docs, from the real frontend and a real run."""
