#include "config.h"
#include "node/config/home.h"

#include <stdio.h>

bool config_home_path(const char *home, const char *name, char to[HOME_PATH_MAX])
{
    int n = name[0] == '/' ? snprintf(to, HOME_PATH_MAX, "%s", name)
                           : snprintf(to, HOME_PATH_MAX, "%s/%s", home, name);
    return n > 0 && n < HOME_PATH_MAX;
}
