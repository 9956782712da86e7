"""What one caller may ask of the server: limits that hold for each, on top of those that hold for all together."""
