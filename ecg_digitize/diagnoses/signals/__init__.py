"""Classes from signals: ``net`` has the network, ``training`` what it is shown."""
