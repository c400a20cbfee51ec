"""Who publishes VGG weights, and what they call their arrays. One module each."""
