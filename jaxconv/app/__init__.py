"""Training runs from config files: schema, config, data sources, run folders, curves, predictions from files."""
