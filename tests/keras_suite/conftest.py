"""Registers the markers of Keras's test modules, so that they can be imported."""


def pytest_configure(config):
    for name in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", f"{name}: of Keras's test cases")
