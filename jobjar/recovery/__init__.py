"""The only backward edges: jobs of dead workers go back, and what crashes left is put right."""
