"""Running answers of this process, their replay, recent answers and the live tail. No HTTP."""
