"""From a config file to a run: schema, config, data sources, run folder, curves, predictions from files."""
