"""What is handed on of btmd: the wheel, and a folder from which it is installed without a network."""
