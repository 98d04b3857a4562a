/* The network cards that the command line asks for, on the board's buses. */
#include "pc_int.h"

#include <string.h>

#include "../core/vm/nic.h"
#include "ne2000.h"

bool pc_add_cards(Pc *pc, Error *err)
{
    Machine *m = pc->dev.m;
    const NicConfig *card;

    if (!net_open(m, err))
        return false;
    int count = net_cards(m, &card);
    for (int i = 0; i < count; i++) {
        if (!strcmp(card[i].model, "ne2k_isa"))
            ne2k_isa_create(m, &card[i], pc_isa_irq(pc, (int)card[i].irq));
        else
            ne2k_pci_create(m, m->pci, &card[i]);
    }
    return true;
}
