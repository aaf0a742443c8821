"""The four original MNIST files, as package data; see NOTICE for their authors and licence."""
