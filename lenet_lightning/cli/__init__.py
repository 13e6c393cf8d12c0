"""The command line of ``fit``, ``validate``, ``test``, ``predict`` and ``export``."""
