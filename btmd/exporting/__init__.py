"""What a training made, in the forms in which people take it away; each is read again and compared before it counts."""
