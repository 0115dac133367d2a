"""Building blocks of networks: dense, locally connected and convolutional layers, their regions and flash objects."""
