"""The cases of Keras's that are not run, each with its reason. A key is a case, or the beginning of several."""

LEFT_OUT: dict[str, str] = {}
