# Sourced before each job, with the package's place as $1, in the job's directory.
PATH=$1/bin:$PATH
export PATH
