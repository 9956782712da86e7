"""Packages: made, looked through, loaded, tested, told apart; and what a hostile one can not do."""
