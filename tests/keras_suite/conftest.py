"""Lets Keras's test modules be imported: the marks that they use are legal here."""


def pytest_configure(config):
    for name in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", f"{name}: of Keras's test cases")
