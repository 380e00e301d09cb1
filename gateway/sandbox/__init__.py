"""``gatehouse demo``: a mail world on this machine, with customers who write, answer, bounce and complain."""
