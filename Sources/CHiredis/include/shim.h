// hiredis without its I/O: the reply reader and the command formatter (Debian: libhiredis-dev).
#pragma once
#include <hiredis/hiredis.h>
#include <hiredis/read.h>
