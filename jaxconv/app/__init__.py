"""What turns a config file into a run: schema, config, data sources, run folder, curves, predictions from files."""
