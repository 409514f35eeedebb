"""From the plain data of stages/report.py to one HTML page with pictures; jinja2 escapes all texts."""
