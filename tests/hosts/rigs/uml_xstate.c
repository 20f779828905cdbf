/* For user-mode Linux 6.1 on processors whose extended state is larger than it has room for (AMX: 11 KiB).

   The host takes that state as a whole or not at all (EFAULT, and the guest panics: "ptrace set fp regs failed"). Preloaded,
   this gives the guest's kernel the part that it has room for, and leaves the rest of a process's state as it is. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/uio.h>

#define GETREGSET 0x4204
#define SETREGSET 0x4205
#define XSTATE 0x202

typedef long ptrace_call(long, ...);

long ptrace(long request, ...)
{
    static ptrace_call *real;
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, long);
    void *address = va_arg(arguments, void *), *data = va_arg(arguments, void *);
    va_end(arguments);
    if (real == NULL)
        real = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
    if ((request != GETREGSET && request != SETREGSET) || (long)address != XSTATE)
        return real(request, pid, address, data);

    static char state[1 << 16];
    struct iovec *part = data, whole = {state, sizeof state};
    long answer = real(GETREGSET, pid, address, &whole);
    if (answer < 0)
        return answer;
    if (part->iov_len > whole.iov_len)
        part->iov_len = whole.iov_len;
    if (request == GETREGSET) {
        memcpy(part->iov_base, state, part->iov_len);
        return answer;
    }
    memcpy(state, part->iov_base, part->iov_len);
    return real(SETREGSET, pid, address, &whole);
}
