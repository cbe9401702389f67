
survival
 1.00 |oooooooooo                                                      
      |          ooooooooooo                                           
      |                     oooooooooo                                 
      |                               ooooooooooo                     .
 0.75 |                                          ooooooooooo...........
      |                                                     ooooooooooo
      |                                                               .
      |                                                               .
 0.50 |                                                                
      |                                                                
      |                                                                
      |                                                                
 0.25 |                                                                
      |                                                                
      |                                                                
      |                                                                
 0.00 |                                                                
      +----------------------------------------------------------------
       0                                                           6000
       * F
       o M
       . 95 % band
