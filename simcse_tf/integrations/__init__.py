"""SimCSE models for other packages' interfaces. Each needs its package installed."""
