"""Compares nbws with other tools: `make bench`, or `PYTHONPATH=benches python -m nbws_bench quick`."""
