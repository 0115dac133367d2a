"""What a network is made of: dense, locally connected and convolutional layers, their regions and flash objects."""
