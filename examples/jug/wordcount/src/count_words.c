/* Words, lines and bytes of each file, as wc counts them in the C locale: `words lines bytes name`. */
#include <ctype.h>
#include <stdio.h>

static int count(const char *name)
{
    FILE *file = fopen(name, "rb");
    long words = 0, lines = 0, bytes = 0;
    int in_word = 0, c;
    if (!file) {
        perror(name);
        return 1;
    }
    while ((c = getc(file)) != EOF) {
        bytes++;
        lines += c == '\n';
        words += !isspace(c) && !in_word;
        in_word = !isspace(c);
    }
    printf("%ld %ld %ld %s\n", words, lines, bytes, name);
    return fclose(file) != 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= count(argv[i]);
    return failed;
}
