/* Prints its arguments, writes a file in /output and reads it back.
   Built by scripts/toolchains.sh for WASI preview 1. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 100000 };

/* Clang compiles this loop to SIMD instructions. */
static uint32_t sum_of_squares(const uint32_t *values, size_t count)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sum;
}

static int fail(const char *what)
{
    fprintf(stderr, "could not %s: %s\n", what, strerror(errno));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);

    uint32_t *values = malloc(COUNT * sizeof *values);
    if (!values)
        return fail("allocate memory");
    for (uint32_t i = 0; i < COUNT; i++)
        values[i] = i;
    printf("sum of squares: %u\n", (unsigned)sum_of_squares(values, COUNT));
    free(values);
    printf("one third: %.4f\n", 1 / 3.0);

    FILE *file = fopen("/output/result.txt", "w+");
    if (!file)
        return fail("create /output/result.txt");
    char line[32] = "";
    if (fputs("written by C\n", file) == EOF || fseek(file, 0, SEEK_SET) || !fgets(line, sizeof line, file))
        return fail("write and read /output/result.txt");
    printf("read back: %s", line);
    if (fclose(file))
        return fail("close /output/result.txt");

    if (!fopen("/etc/passwd", "r"))
        printf("/etc/passwd: %s\n", strerror(errno));
    return EXIT_SUCCESS;
}
