"""The SDKs behind one interface: so that one test asks the same of all of them. Each checks replies strictly against its own types."""
