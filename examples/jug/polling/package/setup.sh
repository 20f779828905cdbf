PATH=$1/bin:$PATH
export PATH
