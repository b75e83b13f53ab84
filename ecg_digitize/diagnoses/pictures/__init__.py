"""Classes from the rectified picture: ``net`` has the network, ``training`` what it is shown."""
