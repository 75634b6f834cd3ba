"""The page that searches an index, one model beside another."""
