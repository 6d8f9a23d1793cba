"""The command line: parsing, one call of the API, printing."""
