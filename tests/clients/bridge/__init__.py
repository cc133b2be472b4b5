"""Real SDKs through the bridge, to fakes of the providers they were not made for."""
