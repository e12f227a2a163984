"""What is checked when somebody asks whether the installation is well; read only then."""
