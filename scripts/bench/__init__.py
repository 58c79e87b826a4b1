"""Speed and memory against MONAI's own parts, as the model zoo's bundles use them: `make bench`."""
