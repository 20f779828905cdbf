"""What a job's file says about the job: name, header, attributes and description. Moves nothing."""
