"""The only backward edges of a job's way: dead workers' jobs go back, and what crashes left is put right."""
