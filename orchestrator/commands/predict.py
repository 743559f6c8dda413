"""`archscout predict`: what a promoted model makes of images and arrays."""
