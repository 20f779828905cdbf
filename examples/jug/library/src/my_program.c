#include <stdio.h>

const char *greeting(void);

int main(int argc, char **argv)
{
    return printf("%s %s\n", argc > 1 ? argv[1] : "hello", greeting()) < 0;
}
