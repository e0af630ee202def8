"""One module or folder for each upstream; which model goes to which."""
