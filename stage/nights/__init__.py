"""The night: takes in new photographs, makes the data again, and tags a version if it is not worse."""
